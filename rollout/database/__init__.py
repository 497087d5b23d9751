"""Care of the database: backup, restore, swap, restart. Nothing live is replaced without a proven copy."""
