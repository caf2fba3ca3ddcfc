# cmake -D PROGRAM=... -D TEMPLATE=... -D OUTPUT=... -D NAME=VALUE... -P FillTemplate.cmake
# Writes the template with what the program prints as @PRINTED@, and each @NAME@ as its value.
execute_process(COMMAND ${PROGRAM} OUTPUT_VARIABLE PRINTED COMMAND_ERROR_IS_FATAL ANY)
configure_file(${TEMPLATE} ${OUTPUT} @ONLY)
