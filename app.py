"""Track4DGen Studio: ``python app.py`` opens the studio; ``python app.py --help`` lists its options."""

if __name__ == "__main__":  # the spawned worker imports this file too, and must not start a second studio
    from studio.app import run

    run()
