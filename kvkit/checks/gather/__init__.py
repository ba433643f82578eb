"""What looks: each module fills one section of the facts and judges nothing."""
