"""The commands, a file each; their table is `cli.parser.COMMANDS`."""
