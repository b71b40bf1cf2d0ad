"""Files people take away: videos, contact sheets, PLY sequences, the offline player, the run manifest."""
