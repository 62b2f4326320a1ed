"""Ultralytics and Darknet YOLO labels."""
