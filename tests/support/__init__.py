"""What the tests share: worker processes, waiting on conditions, jobs that workers import."""
