"""What is in deploy/: against its schemas, and played with processes and network namespaces."""
