"""From pixels to sites: class maps, cells, scores, detections."""
