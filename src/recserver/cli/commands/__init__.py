"""The commands, a module each; the options of those that import much are apart."""
