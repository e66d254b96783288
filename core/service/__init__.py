"""What an orchestrator asks for, as whole operations: recorded before they begin, ended after a crash."""
