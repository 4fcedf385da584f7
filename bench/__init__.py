"""What the addon costs, measured against mitmdump passing the same upstream stream through.

`scripts/bench` starts a fake upstream, a load generator and one mitmdump per system and way in,
all as processes of their own, and asks the systems in turn: A B C, A B C, … Every answer is
checked outside the timed part; a wrong one ends the run.
"""
