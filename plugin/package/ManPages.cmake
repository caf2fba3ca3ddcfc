# Manual pages, made of what the programs say to --help and installed compressed.
find_program(HELP2MAN help2man)
find_program(GZIP gzip REQUIRED)
if(NOT HELP2MAN)
  message(STATUS "help2man is not here: no manual pages of programs, and no packages")
endif()

# The pages bear the date of the newest release, so that each build makes the same ones.
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS CHANGELOG.md)
file(STRINGS CHANGELOG.md PROJECT_DATE REGEX "^## \\[[0-9.]+\\] - " LIMIT_COUNT 1)
string(REGEX REPLACE ".* - " "" PROJECT_DATE "${PROJECT_DATE}")
execute_process(COMMAND date --utc --date=${PROJECT_DATE} +%s
                OUTPUT_VARIABLE PROJECT_DATE_SECONDS OUTPUT_STRIP_TRAILING_WHITESPACE
                COMMAND_ERROR_IS_FATAL ANY)

# install_man_page(FILE [COMPONENT]): compresses a page that the build makes, and installs it.
function(install_man_page page)
  set(component runtime)
  if(ARGC GREATER 1)
    set(component ${ARGV1})
  endif()
  cmake_path(GET page FILENAME name)
  cmake_path(GET page EXTENSION LAST_ONLY section)
  string(SUBSTRING ${section} 1 -1 section)
  add_custom_command(OUTPUT ${page}.gz COMMAND ${GZIP} -9nfk ${page} DEPENDS ${page} VERBATIM)
  add_custom_target(${name}_page ALL DEPENDS ${page}.gz)
  install(FILES ${page}.gz DESTINATION ${CMAKE_INSTALL_MANDIR}/man${section}
          COMPONENT ${component})
endfunction()

# program_man_page(TARGET SUMMARY HELP_OPTION): TARGET(1) from its help and TARGET.h2m beside it.
function(program_man_page target summary help_option)
  if(NOT HELP2MAN OR SVM_PMU_SANITIZE)
    return()
  endif()
  set(page ${CMAKE_CURRENT_BINARY_DIR}/${target}.1)
  add_custom_command(
    OUTPUT ${page}
    COMMAND ${CMAKE_COMMAND} -E env LC_ALL=C ${HELP2MAN} --no-info --section=1 --name=${summary} --help-option=${help_option}
            --version-string=${PROJECT_VERSION} "--source=${PROJECT_NAME} ${PROJECT_VERSION}"
            --manual=${PROJECT_NAME} --include=${CMAKE_CURRENT_SOURCE_DIR}/${target}.h2m
            --output=${page} $<TARGET_FILE:${target}>
    COMMAND sed -i "2s/\"[A-Z][a-z]* [0-9]*\"/${PROJECT_DATE}/" ${page} # help2man: the month
    DEPENDS ${target} ${target}.h2m
    VERBATIM)
  install_man_page(${page})
endfunction()
