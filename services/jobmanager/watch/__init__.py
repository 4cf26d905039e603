"""What the job manager watches beside its jobs: the broker and the workers."""
