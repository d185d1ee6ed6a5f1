"""Result images: what they show, how they are drawn or found, and how they are sent."""
