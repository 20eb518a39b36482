"""OpenVINO's own files, for CPUs."""
