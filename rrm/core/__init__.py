"""The words of the framework: records, tasks and assistants, the protocols of what plugs in, and what all rooms use."""
