"""Where runs execute. Each engine is one module; none knows another."""
