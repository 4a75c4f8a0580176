"""A repository served by this program: for hosts that fetch by themselves, where no other web server is wanted."""
