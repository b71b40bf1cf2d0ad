"""Files people take away: videos, contact sheets, animated GLB, PLY, SPZ, tracks, the offline player, run.json."""
