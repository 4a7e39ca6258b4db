"""What flows through the API server to and from a pod: logs, commands, ports, HTTP."""
