"""The guided tour: a first merge of two specialists, how the search goes on, from scratch."""
