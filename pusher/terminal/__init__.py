"""What people see: progress, tables, errors, standard output."""
