"""The Space on the Hub: the page of `compalign space`, closed to folders of its machine and to very large models."""

from compalign.scripts.space import main

if __name__ == "__main__":
    main(["--no_folders", "--most_gigabytes", "4", "--detector", "facebook/detr-resnet-50"])
