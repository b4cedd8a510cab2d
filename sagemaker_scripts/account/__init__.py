"""What the scripts do in an account: what it runs on and costs, what is made, and how it is undone."""
