"""Result images: what they show, how they are drawn or taken from a folder, and how they are served."""
