"""What several tests share: models, servers, clients, processes."""
