from kvkit.cli import main

main()
