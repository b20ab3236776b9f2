"""Every column name that a coldray table has, in one place."""

USER = "user_id"  # string
ITEM = "item_id"  # string
TIME = "timestamp"  # int64, seconds since 1970 (or any other unit that orders); null where unknown
POSITION = "position"  # int64, 0 = the user's oldest interaction
RATING = "rating"  # float64; null where unknown
PART = "part"  # string; only of data published in parts: "train", "test", "target" (ground truth of a test)

# Split tables. An item's index is 1..num_items, warm items first; 0 is padding.
INDEX = "index"  # int32
TRAIN_COUNT = "train_count"  # int64, interactions of the item in training sequences
COLD = "cold"  # bool
HISTORY = "history"  # list<int32>, item indices, oldest first
TARGET = "target"  # int32, item index

EMBEDDING = "embedding"  # fixed_size_list<float32, d>
