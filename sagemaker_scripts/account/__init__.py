"""What the scripts do in an AWS account: what runs there, what it costs, and how it is created and deleted."""
