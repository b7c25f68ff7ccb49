"""Questions for people, the queue of them, and how far people agree."""
