"""What is typed: by an engineer, and by a playbook on a host. It holds no rule of its own."""
