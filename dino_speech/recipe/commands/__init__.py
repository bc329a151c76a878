"""What each recipe command does with the objects of a recipe; how its text becomes those is in the room above.

Every `run_...` takes `recipe`, what `load_recipe` gives; `resume`, where False deletes what a former run left in the
output folder and starts anew instead of going on; and `device`, as in the `fit` of what the recipe holds. It gives
plain data, raises `RecipeError` where a key is missing or holds another thing, `InputError` where data or settings do
not fit, as that `fit` says, and `Interrupted` when SIGINT or SIGTERM arrived, after the state was saved.
"""
