"""The attacks of training and evaluation, AutoAttack, and the checks of attacks."""
