"""What every command shares: arguments in, a validated config to the command's action, an exit code out."""
