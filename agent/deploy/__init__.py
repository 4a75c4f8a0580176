"""The way of a deployment: admitted, carried out, taken back if a step fails, recovered after a crash.

Who is who:

- `Attempt` (core/plan.py): the facts of one deployment, which never change.
- `Record` (host/storage/journal.py): its row in the journal, an attempt and how far it came.
- `Deployment` (deployment.py): what people watch, its events and its end; running, or read from its record.
- `Executor` (executor.py): one for each app. It carries out a deployment, and takes it back if a step fails.
- `DeploymentLock` (lock.py): one for each app. It lets one deployment run at a time, and knows who runs it.
"""
