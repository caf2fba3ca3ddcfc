# Writes the SBOM of a package, SPDX 2.3 as JSON: which programs and libraries are in it, and which
# code of others is inside each of them, as the symbols of the built file say. Included by scripts
# that Package.cmake generates, which set
#   SBOM_OUTPUT      the file to write
#   SBOM_PACKAGE     the package's name; SBOM_VERSION; SBOM_SECONDS, its date since 1970;
#                    SBOM_HOMEPAGE
#   SBOM_FILES       "installed path|built file", a line per program and library
#   SBOM_COMPONENTS  "name|version|licence|symbol|source", a line per code that may be inside. It is, where
#                    the regular expression "symbol" matches a defined, demangled symbol; "source" is
#                    a file of it on this machine, of which the machine's package manager is asked
#   SBOM_NM, SBOM_READELF
cmake_minimum_required(VERSION 3.23)

# json(VARIABLE TEXT): TEXT as a JSON string.
function(json variable text)
  string(REPLACE "\\" "\\\\" text "${text}")
  string(REPLACE "\"" "\\\"" text "${text}")
  set(${variable} "\"${text}\"" PARENT_SCOPE)
endfunction()

# packaged_as(FILE): sets package, source, version, kind (of a package URL), distributor; empty where
# no package manager knows the file.
function(packaged_as file)
  set(kind "")
  set(found FALSE)
  find_program(DPKG_QUERY dpkg-query)
  find_program(RPM rpm)
  file(REAL_PATH "${file}" file)
  if(DPKG_QUERY)
    execute_process(COMMAND ${DPKG_QUERY} -S "${file}" OUTPUT_VARIABLE owner ERROR_QUIET
                    RESULT_VARIABLE failed)
    if(NOT failed AND owner MATCHES "^([^ ,]+): ")
      execute_process(COMMAND ${DPKG_QUERY} -W -f "\${Package}|\${source:Package}|\${Version}"
                              ${CMAKE_MATCH_1}
                      OUTPUT_VARIABLE found COMMAND_ERROR_IS_FATAL ANY)
      set(kind deb)
    endif()
  endif()
  if(RPM AND NOT found)
    execute_process(COMMAND ${RPM} -qf --qf "%{NAME}|%{NAME}|%{VERSION}-%{RELEASE}" "${file}"
                    OUTPUT_VARIABLE found ERROR_QUIET RESULT_VARIABLE failed)
    set(kind rpm)
    if(failed)
      set(found FALSE)
    endif()
  endif()
  if(found MATCHES "^([^|]+)\\|([^|]+)\\|([^|]+)$")
    set(package ${CMAKE_MATCH_1} PARENT_SCOPE)
    set(source ${CMAKE_MATCH_2} PARENT_SCOPE)
    set(version ${CMAKE_MATCH_3} PARENT_SCOPE)
    file(STRINGS /etc/os-release distributor REGEX "^ID=" LIMIT_COUNT 1)
    string(REGEX REPLACE "^ID=\"?([^\"]*)\"?$" "\\1" distributor "${distributor}")
    set(distributor ${distributor} PARENT_SCOPE)
    set(kind ${kind} PARENT_SCOPE)
  else()
    set(package "" PARENT_SCOPE)
  endif()
endfunction()

foreach(lines IN ITEMS SBOM_FILES SBOM_COMPONENTS)
  string(REGEX MATCHALL "[^ \n][^\n]*" ${lines} "${${lines}}")
endforeach()
set(packages "")
set(relationships "")
set(inside "")
macro(relate from kind to)
  list(APPEND relationships "    {\"spdxElementId\": \"SPDXRef-${from}\", \"relationshipType\": \
\"${kind}\", \"relatedSpdxElement\": \"SPDXRef-${to}\"}")
endmacro()
macro(add_package id name version licence more)
  json(name_json "${name}")
  json(version_json "${version}")
  list(APPEND packages "    {
      \"SPDXID\": \"SPDXRef-${id}\",
      \"name\": ${name_json},
      \"versionInfo\": ${version_json},${more}
      \"downloadLocation\": \"NOASSERTION\",
      \"filesAnalyzed\": false,
      \"licenseConcluded\": \"NOASSERTION\",
      \"licenseDeclared\": \"${licence}\",
      \"copyrightText\": \"NOASSERTION\"
    }")
endmacro()

json(homepage_json "${SBOM_HOMEPAGE}")
add_package(Package "${SBOM_PACKAGE}" "${SBOM_VERSION}" MIT "
      \"homepage\": ${homepage_json},
      \"primaryPackagePurpose\": \"INSTALL\",")
relate(DOCUMENT DESCRIBES Package)

foreach(line IN LISTS SBOM_FILES)
  string(REGEX MATCH "^(.*)\\|(.*)$" matched "${line}")
  set(path ${CMAKE_MATCH_1})
  set(built ${CMAKE_MATCH_2})
  cmake_path(GET path FILENAME name)
  string(REGEX REPLACE "[^A-Za-z0-9.-]" "-" id "File-${name}")
  execute_process(COMMAND ${SBOM_READELF} -n "${built}" OUTPUT_VARIABLE notes
                  COMMAND_ERROR_IS_FATAL ANY)
  if(NOT notes MATCHES "Build ID: ([0-9a-f]+)")
    message(FATAL_ERROR "${built} has no build id")
  endif()
  set(build_id ${CMAKE_MATCH_1})
  execute_process(COMMAND ${SBOM_NM} --demangle --defined-only "${built}" OUTPUT_VARIABLE symbols
                  COMMAND_ERROR_IS_FATAL ANY)
  string(LENGTH "${symbols}" length)
  if(length EQUAL 0)
    message(FATAL_ERROR "${built} has no symbols that say what is inside")
  endif()
  set(purpose LIBRARY)
  if(path MATCHES "/bin/")
    set(purpose APPLICATION)
  endif()
  add_package(${id} "${name}" "${SBOM_VERSION}" MIT "
      \"packageFileName\": \".${path}\",
      \"primaryPackagePurpose\": \"${purpose}\",
      \"comment\": \"GNU build id ${build_id}\",")
  relate(Package CONTAINS ${id})
  foreach(component IN LISTS SBOM_COMPONENTS)
    string(REGEX MATCH "^([^|]*)\\|([^|]*)\\|([^|]*)\\|([^|]*)\\|(.*)$" matched "${component}")
    string(REPLACE "+" "x" component_id "Inside-${CMAKE_MATCH_1}")
    string(REPLACE "$" "\n" symbol "${CMAKE_MATCH_4}") # a symbol a line
    if(symbols MATCHES "[ (<&]${symbol}")
      relate(${id} STATIC_LINK ${component_id})
      list(APPEND inside "${component}")
    endif()
  endforeach()
endforeach()

list(REMOVE_DUPLICATES inside)
foreach(component IN LISTS inside)
  string(REGEX MATCH "^([^|]*)\\|([^|]*)\\|([^|]*)\\|([^|]*)\\|(.*)$" matched "${component}")
  set(name ${CMAKE_MATCH_1})
  set(version ${CMAKE_MATCH_2})
  set(licence ${CMAKE_MATCH_3})
  string(REPLACE "+" "x" id "Inside-${name}")
  packaged_as("${CMAKE_MATCH_5}")
  set(more "
      \"primaryPackagePurpose\": \"LIBRARY\",")
  if(package)
    string(REPLACE "+" "%2B" url "${package}@${version}")
    string(REPLACE ":" "%3A" url "${url}")
    string(APPEND more "
      \"sourceInfo\": \"${distributor}: ${package} ${version}, source ${source}\",
      \"externalRefs\": [{\"referenceCategory\": \"PACKAGE-MANAGER\", \"referenceType\": \"purl\",
        \"referenceLocator\": \"pkg:${kind}/${distributor}/${url}\"}],")
  endif()
  add_package(${id} "${name}" "${version}" "${licence}" "${more}")
endforeach()

list(JOIN packages ",\n" packages)
list(JOIN relationships ",\n" relationships)
string(UUID uuid NAMESPACE 6ba7b811-9dad-11d1-80b4-00c04fd430c8 # of URLs, RFC 4122
       NAME "${SBOM_HOMEPAGE}${SBOM_PACKAGE}${SBOM_VERSION}${packages}${relationships}" TYPE SHA1)
set(ENV{SOURCE_DATE_EPOCH} ${SBOM_SECONDS})
string(TIMESTAMP created "%Y-%m-%dT%H:%M:%SZ" UTC)
file(WRITE "${SBOM_OUTPUT}" "{
  \"spdxVersion\": \"SPDX-2.3\",
  \"dataLicense\": \"CC0-1.0\",
  \"SPDXID\": \"SPDXRef-DOCUMENT\",
  \"name\": \"${SBOM_PACKAGE}-${SBOM_VERSION}\",
  \"documentNamespace\": \"urn:uuid:${uuid}\",
  \"creationInfo\": {\"created\": \"${created}\", \"creators\": [\"Tool: svm_pmu-${SBOM_VERSION}\"]},
  \"packages\": [\n${packages}\n  ],
  \"relationships\": [\n${relationships}\n  ]
}
")
