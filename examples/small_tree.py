"""A tree of two nodes, trained in under 20 seconds: papers, judged with the help of a critic of their writing.

    python examples/small_tree.py
"""

import rrm
from rrm.worlds.papers import Briefs, facts, surface
from rrm_assistants import writing

FEW = {"rounds": 1, "cases": 16, "comparisons": 48, "steps": 4, "batch": 8, "accept": 8}
paper = rrm.Task(
    "paper",
    instruction="Which paper is better?",
    cases=Briefs(seed=0),
    facts=facts,
    surface=surface,
    assistants=[writing(settings=rrm.Settings(max_tokens=16, **FEW))],
    settings=rrm.Settings(max_tokens=96, **FEW),
)

if __name__ == "__main__":
    root = rrm.train(paper, rrm.BoundedUser(attention=6), out="runs/small-tree")  # again: it is finished already
    (group,) = root.agent.sample(Briefs(seed=1).draw(1, "look"), 1, "look")
    print(group.outcomes[0].text)
    print("The critic:", root.helpers[0].examine([group])[0][0].text)
    print("More: rrm inspect runs/small-tree paper, or rrm view runs/small-tree")
