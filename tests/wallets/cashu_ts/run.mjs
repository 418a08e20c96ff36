// Runs one flow: node run.mjs FLOW. Exits at its end, whatever sockets the library keeps open.
await import(`./flows/${process.argv[2]}.mjs`)
process.exit(0)
