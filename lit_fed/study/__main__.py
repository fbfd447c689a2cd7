"""``python -m lit_fed.study`` is ``lit-fed-study``."""

from lit_fed.study import main

if __name__ == "__main__":
    main()
