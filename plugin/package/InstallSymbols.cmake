# install_symbols(FILE FOLDER): installs the debug information of a built file where debuggers look
# for its build id. FOLDER is for what comes between.
function(install_symbols file folder)
  execute_process(COMMAND "${CMAKE_READELF}" -n "${file}" OUTPUT_VARIABLE notes
                  COMMAND_ERROR_IS_FATAL ANY)
  if(NOT notes MATCHES "Build ID: ([0-9a-f][0-9a-f])([0-9a-f]+)")
    message(FATAL_ERROR "${file} has no build id")
  endif()
  set(first ${CMAKE_MATCH_1})
  set(name ${CMAKE_MATCH_2}.debug)
  file(MAKE_DIRECTORY "${folder}")
  execute_process(COMMAND "${CMAKE_OBJCOPY}" --only-keep-debug --compress-debug-sections "${file}"
                          "${folder}/${name}" COMMAND_ERROR_IS_FATAL ANY)
  file(INSTALL DESTINATION "${CMAKE_INSTALL_PREFIX}/lib/debug/.build-id/${first}"
       TYPE FILE FILES "${folder}/${name}")
endfunction()
