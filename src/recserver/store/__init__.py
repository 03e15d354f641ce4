"""The data folder: models, tasks and data chefs as files. Every write is atomic; unknown keys survive."""
