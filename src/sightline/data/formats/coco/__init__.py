"""COCO instances and key points, also in Roboflow's layout."""
