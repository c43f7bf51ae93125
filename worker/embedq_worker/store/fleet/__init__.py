"""The fleet as it is in Redis: queues, reports of the processes, and its pace."""
