"""What other libraries take, each in a module of its own that imports that library."""
