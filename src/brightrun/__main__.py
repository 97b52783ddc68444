from brightrun.cli.main import main

main()
