from abn_fast.cli import main

if __name__ == "__main__":
    main()
