"""What changes a target, and the p12 command. Every change is journaled; nothing is restored by itself."""
