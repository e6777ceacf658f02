"""Load on a server that the user names: `fastws bench`.

- `command`: from arguments to an exit status; `arguments`, `plan`: what they are, checked.
- `fanout`, `echo`, `storm`: the questions; `messages`: what those about messages share; `run`: what each is given.
- `timing`, `alarm`: when something is due, and being called then, by microseconds. `template`: placeholders.
- `connections`, `addresses`: opening very many. `receiver`, `recording`: what comes, how late, and what does not.
- `processes`, `child`: one question asked by several. `generator`: whether it was itself the bottleneck.
- `findings`, `report`, `progress`, `plot`: what came of it, and how it is shown.

It imports `client`, `ws`, `errors` and `version`. Who imports it: `process`, for the command.
"""
