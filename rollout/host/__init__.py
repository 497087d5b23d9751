"""What a host runs: slots, programs, ports, packages. It never decides who gets traffic."""
