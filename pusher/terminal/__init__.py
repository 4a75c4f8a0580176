"""What people see: progress, tables, colours, standard output."""
