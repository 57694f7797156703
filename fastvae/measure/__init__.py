"""What a measurement ran on, how it is timed, read and compared."""
