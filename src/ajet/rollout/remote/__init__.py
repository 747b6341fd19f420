"""Episodes that programs on other machines play: `workflow=workers` here, `python -m ajet.rollout.worker` there.

    runner ─▶ WorkersWorkflow.execute ─▶ EpisodeQueue ◀─ HTTP ◀─ a worker: claim, agent, finish
                    │  the episode's own tuner answers for it

To the runner it is a workflow like any other, so that retries, deadlines, groups, credit and metrics are those of any
run, and the tuner's addresses are what a worker's agents ask for replies.
"""
