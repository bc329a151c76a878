"""What each recipe command does with the objects of a recipe: pretraining, fine-tuning, adapting, studying.

How a recipe's text becomes those objects is in the room above.
"""
