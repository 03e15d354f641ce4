"""What people write, checked: ids, numbers and other values, and sentences about those that are wrong."""
